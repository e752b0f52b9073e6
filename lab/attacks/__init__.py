"""Attacks on a server of this machine, next to two real calls (`python -m earshot.lab.attacks`)."""
