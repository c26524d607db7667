"""Histories made of text: reading, cleaning, training, measuring and looking at them."""
