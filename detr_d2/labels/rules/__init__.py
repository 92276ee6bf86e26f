"""What is right and wrong with labels: every rule of the project, of which ``rules.md`` is the table."""
