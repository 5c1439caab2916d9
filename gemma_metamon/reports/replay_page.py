"""A battle as a web page of its own: opens from disk, needs no network, and loads nothing."""

from collections.abc import Mapping

from markupsafe import Markup

from gemma_metamon.pages import load_templates
from gemma_metamon.reports.battle_log import BattleStory, read_log
from gemma_metamon.reports.battle_sides import Side

TEMPLATES = load_templates("gemma_metamon.reports")


def replay_page(log: str, title: str, names: Mapping[str, str] | None = None) -> str:
    """A page to step through a battle with, turn by turn.

    The log is embedded as Showdown's own replay files have it, so its viewer opens the page, too.

    Args:
        log: the lines of Showdown's protocol ("|move|p1a: Tauros|Body Slam|p2a: Chansey"), of anyone's view.
        title: the page's heading.
        names: what to call the players in place of their names on the server: {"p1": "first@2", "p2": "RandomPlayer"}.
    """
    story = read_log(log, names)
    return TEMPLATES.get_template("replay.html.j2").render(
        title=title,
        story=story,
        result=_result(story),
        states=[[_side_state(side) for side in turn.sides] for turn in story.turns],
        # Showdown's viewer reads "\/" as "/"; so no log can end the script element that it stands in
        log=Markup(log.replace("</", "<\\/")),
    )


def _result(story: BattleStory) -> str:
    turns = f"after {story.turns[-1].number} turns"
    if story.winner is not None:
        return f"{story.winner} won {turns}"
    tied = any(event.text == "The battle ended in a tie" for event in story.turns[-1].events)
    return f"a tie {turns}" if tied else f"the log ends {turns}, before the battle does"


def _side_state(side: Side) -> dict[str, object]:
    """What the page's script draws; short names, because it is there once per turn."""
    return {
        "player": side.player,
        "unseen": max(0, side.team_size - len(side.members)),
        "members": [
            {
                "n": member.label,
                "hp": round(member.hp, 3),
                "s": member.status,
                "a": int(member.active),
                "t": member.tera,
                "u": int(not member.seen),
            }
            for member in side.members
        ],
    }
