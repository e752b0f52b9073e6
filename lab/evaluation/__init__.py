"""Judging what a codec does to speech: measures on clips, beside other codecs. Nothing of time is
measured here."""
