"""Bytes to spans: finds the tensors in the files that models come in."""
