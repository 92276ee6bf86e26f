"""What ``tools/fuzz.py`` is made of: real examples, their mutations, the commands that read them, and the guard."""
