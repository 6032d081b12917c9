"""The function: func-python's server calls `new`."""

from .func import new as new
