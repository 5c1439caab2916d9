"""Gemma as a policy in words: battles as chats, answers as choices."""
