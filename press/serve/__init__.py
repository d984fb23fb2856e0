"""Serve a package to many clients at once, by the API of OpenAI's chat completions.

What it needs beside the pipeline is in requirements-serve.txt (`make install-serve`), and nothing else imports it.
"""
