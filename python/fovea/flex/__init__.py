"""Attention variants from Python: functions as PyTorch's FlexAttention takes them, traced and written as a variant's C++ text."""
