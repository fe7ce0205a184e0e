"""What every service of the twin is given."""

from __future__ import annotations

from dataclasses import dataclass

from gcp_emulator.accounts import Accounts
from gcp_emulator.clock import Clock, SystemClock
from gcp_emulator.faults import Faults
from gcp_emulator.settings import Settings
from gcp_emulator.state import State
from gcp_emulator.tokens import Tokens


@dataclass(frozen=True)
class Twin:
    settings: Settings
    state: State
    faults: Faults
    clock: Clock
    accounts: Accounts
    tokens: Tokens


def open_twin(settings: Settings, clock: Clock | None = None) -> Twin:
    """What lies in the settings' state folder. Tokens live by the system's clock: those who sign them do, too.

    Raises FolderInUse, OSError.
    """
    state = State(settings.state)
    accounts = Accounts(state)
    accounts.ensure(settings.service_account)
    tokens = Tokens(state, accounts, SystemClock())
    return Twin(settings, state, Faults(), clock or SystemClock(), accounts, tokens)
