"""Errors of the model store.

RelumeError
├── InvalidInput
│   └── ModelMissing      the store has no such model; the message says how to prepare it
├── UnusableModel         the files are there, and no predictor could serve them
└── ModelNotPrepared      fetching failed: the network, the disk, or pip
"""

from relume.base.errors import InvalidInput, RelumeError


class ModelMissing(InvalidInput):
    """The store has no model for this name or URI."""

    reason = "model-missing"


class UnusableModel(RelumeError):
    """A model cannot be read, converted or served; the message says which and why."""

    reason = "unusable-model"


class ModelNotPrepared(RelumeError):
    """A model could not be fetched or written; nothing of it was left behind."""

    reason = "model-not-prepared"
    retryable = True
