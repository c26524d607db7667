"""The embedded history: package data and the builder that makes it."""
