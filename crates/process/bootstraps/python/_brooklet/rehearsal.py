"""Is imported, and forgotten again, by zygotes: see zygote.py."""
