"""Every waiting time of ladder play in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LadderTimeouts:
    """How long to wait for what, in seconds.

    Attributes:
        connect_s: for a connection.
        login_s: for the login after it; a server that has just been started reads its formats first.
        ping_s: between two pings; a connection that leaves one unanswered for as long is cut.
        first_pause_s: before connecting again; twice as long each time that fails.
        longest_pause_s: the most between two attempts.
        give_up_s: without a connection, after which we stop.
        decision_s: for a decision; then something legal is played. Showdown's clock gives back 10 s a turn.
        join_s: for a battle's log after a login; then it is asked for.
        stall_s: without progress in a battle, after which its log is asked for again; after twice that the clock is
            started, so that the opponent has to move.
        forfeit_s: without progress, after which we give the battle up.
        search_s: between two searches that led nowhere.
        rating_s: for the new ratings after a battle.
    """

    connect_s: float = 20.0
    login_s: float = 60.0
    ping_s: float = 20.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    give_up_s: float = 3600.0
    decision_s: float = 10.0
    join_s: float = 5.0
    stall_s: float = 60.0
    forfeit_s: float = 900.0
    search_s: float = 10.0
    rating_s: float = 5.0
