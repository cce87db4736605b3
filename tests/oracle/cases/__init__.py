"""The cases behind tests/vectors: inputs, and what must become of each, written by hand."""
