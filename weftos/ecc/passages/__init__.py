"""Documents cut into sections and passages, with lines, and the references among them."""
