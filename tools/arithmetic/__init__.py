"""Reads what people and models write for a calculation, and computes it exactly. Nothing is ever evaluated as code."""
