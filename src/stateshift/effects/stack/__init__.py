"""The best effect backbone: members put together by weights that held-out rows decide, regime by regime."""

from stateshift.effects.stack.fit import HeldOut, Stack, fit_stack

__all__ = ["HeldOut", "Stack", "fit_stack"]
