"""The verbs: one module each, functions that take the `Store` first."""
