"""All of a season's checks of one prediction at once."""

from stateshift.challenge.validation.outcome import Check, Validation, validation_table
from stateshift.challenge.validation.validate import validate

__all__ = ["Check", "Validation", "validate", "validation_table"]
