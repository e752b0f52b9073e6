"""Figures of the page in a real browser: its codec beside onnxruntime-web, how fast it loads, and
the delay of a call between two pages."""
