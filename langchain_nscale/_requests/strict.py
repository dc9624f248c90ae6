"""Repeats a conversation that a chat template has rejected, in the strict form."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_nscale._error_bodies import error_message, error_object
from langchain_nscale._requests.fitting import fit
from langchain_nscale.templates import STRICT, STRICT_WITHOUT_TOOLS, violated_rule

if TYPE_CHECKING:
    from langchain_nscale.errors import NscaleError

logger = logging.getLogger(__name__)

_MAX_MODELS = 64  # that a client remembers


class StrictForm:
    """Revises requests of one client, which remembers the models that need it."""

    def __init__(self, models: set[str]) -> None:
        """Add to the models that are known to need the strict form."""
        self._models = models

    def revise(
        self, body: Mapping[str, Any], error: NscaleError
    ) -> Mapping[str, Any] | None:
        """Return a rejected request in the strict form, `None` if that can't help."""
        message = error_message(error_object(error.body) or {})
        if violated_rule(message or "") is None:
            return None
        has_tools = bool(body.get("tools"))
        messages = fit(
            body["messages"],
            STRICT if has_tools else STRICT_WITHOUT_TOOLS,
            has_tools=has_tools,
            is_continued=body.get("continue_final_message") is True,
        )
        if messages is body["messages"]:
            return None
        return {**body, "messages": messages}

    def accept(self, body: Mapping[str, Any]) -> None:
        """Remember that the service has accepted the strict form."""
        model = body["model"]
        if model in self._models:
            return
        if len(self._models) >= _MAX_MODELS:
            self._models.clear()
        self._models.add(model)
        logger.warning(
            "The chat template of %s rejected a conversation, and accepted its strict "
            "form. All are sent so from now on; `template_rules` overrides this.",
            model,
        )
