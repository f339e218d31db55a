"""Texts for errors about sessions and datasets that cannot be shown."""

from __future__ import annotations

from collections.abc import Sequence

from onefs.model import Session


def unserved_message(name: str, repositories: Sequence[str]) -> str:
    """Return the error message for a dataset that is registered but cannot be fetched."""
    where = (
        f"repositories: {', '.join(repositories)}" if repositories else "no repository has the file"
    )
    return f"the file {name} is registered in Alyx, but on no server that can be reached ({where})"


def missing_parts(session: Session) -> str:
    """Return what a session lacks, as text for a message: for example ``a lab, a number``."""
    parts = {
        "a lab": session.lab,
        "a subject": session.subject,
        "a date": session.date,
        "a number": session.number >= 0,
    }
    return ", ".join(name for name, known in parts.items() if not known)
