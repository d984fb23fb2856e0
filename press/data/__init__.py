"""What people bring and what is made of it: examples, templates, answers, rows of tokens."""
