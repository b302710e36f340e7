"""Camelid: the whole Llama 4 system in Python."""
