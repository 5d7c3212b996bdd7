"""Fine-tuning: the rows of data files, a run over them, and the version that comes out of it.

torch, transformers, trl and peft are imported inside functions, so that a `Store` never loads them.
"""
