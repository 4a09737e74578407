"""Mail that was accepted stays accepted, whatever dies in between."""

from __future__ import annotations

import durable
from durable import Context
from durable.testing import Send, crash_everywhere


@durable.workflow("mail-one-message")
async def one_message(ctx: Context) -> str:
    return str(await ctx.receive("answer", str, timeout=3600))


@durable.workflow("mail-last-words")
async def last_words(ctx: Context) -> str:
    receiver = ctx.start(one_message)
    await receiver.send("answer", "goodbye")
    return await receiver


def test_mail_for_a_parked_workflow_wakes_it_also_when_the_process_dies_as_soon_as_the_mail_is_durable() -> None:
    crash_everywhere(one_message, sends=[Send("answer", "yes", after=60.0)]).check()


def test_a_message_that_was_accepted_is_not_refused_after_a_crash_because_its_receiver_has_finished() -> None:
    crash_everywhere(last_words).check()
