"""Before the background services start: runs that were watched when they ended get a whole window to send their next heartbeat.

While nothing of Prefect runs, no heartbeat arrives. Afterwards Prefect 3.8.8 either crashes at once who was silent for so long, living or
dead, or forgets the watch (it sweeps what ended more than a minute ago, whether it was evaluated or not): then a dead run stays Running
for good.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

NAME = "platform: crash zombie flow runs"
"""Of the automation that our setup makes (`Zombies` in config/objects.py)."""
KNOWN_PREFECT_VERSIONS = frozenset({"3.8.8"})


def begin_anew() -> None:
    """Prolong the windows that are open, by one transaction. A database that does not answer is the services' to report."""
    import prefect
    import sqlalchemy.exc

    if prefect.__version__ not in KNOWN_PREFECT_VERSIONS:
        return
    try:
        number = asyncio.run(_prolong())
    except (sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError) as error:
        _say(f"cannot give the runs that are watched for heartbeats a new window ({type(error).__name__})")
        return
    if number:
        _say(f"{number} run(s) that sent heartbeats before this start have a new window for their next one")


async def _prolong() -> int:
    import sqlalchemy as sa
    from prefect.server.database import provide_database_interface
    from prefect.server.events.schemas.automations import EventTrigger

    db = provide_database_interface()
    number = 0
    async with db.session_context(begin_transaction=True) as session:
        if not await session.run_sync(
            lambda there: sa.inspect(there.connection()).has_table("automation_bucket")
        ):
            return 0  # it is migrated at the first start
        ours = await session.execute(sa.select(db.Automation).where(db.Automation.name == NAME))
        for automation in ours.scalars().all():
            trigger, bucket = automation.trigger, db.AutomationBucket
            if not isinstance(trigger, EventTrigger):
                continue  # somebody has changed it; our setup puts it right
            end = datetime.now(UTC) + trigger.within
            done = await session.execute(
                sa.update(bucket)
                .where(
                    bucket.automation_id == automation.id, bucket.count < trigger.threshold, bucket.end < end
                )
                .values(end=end)
            )
            number += done.rowcount
    return number


def _say(text: str) -> None:
    print(f"server_watch.py: {text}", file=sys.stderr, flush=True)
