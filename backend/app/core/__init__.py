"""The application itself: what things are, what it needs from outside, and what it does. No framework in here."""
