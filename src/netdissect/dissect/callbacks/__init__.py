"""Dissect a network every so many steps of its training: by hand, with Lightning, with Hugging Face's Trainer."""
