"""Terms of a student's objective."""
