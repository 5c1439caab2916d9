"""Gemma that sees: decisions as pictures, and pictures as what a vision-language model learns from."""
