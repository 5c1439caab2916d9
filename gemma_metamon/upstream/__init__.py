"""The only package that imports metamon or amago."""
