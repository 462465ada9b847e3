"""Plain requests: answers, tokens and origins, pages."""
