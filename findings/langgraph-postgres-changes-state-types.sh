#!/usr/bin/env bash
# LangGraph: the same state comes back with other types from Postgres than from memory or SQLite.
# PostgresSaver writes text and numbers of the state into a JSON column: a `str` Enum comes back
# as plain text, an IntEnum as an int, a large float as an int; infinity and NaN raise. Inside a
# list they come back as they were.
#
# Guess: a checkpointer restores what it was given; all use the same serializer.
# Why it matters: tests with InMemorySaver pass, and in production `state["status"].value`
# raises after the first resume, as does `best = float("inf")` at the first step.
# Starts a Postgres of its own, on a socket in a temporary folder (77: not installed).
set -euo pipefail
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
[ -n "$programs" ] || { echo "Needs Postgres: apt-get install postgresql"; exit 77; }
folder=$(mktemp -d)
as_server=(env)
if [ "$(id -u)" = 0 ]; then # initdb refuses to run as root
    chmod 711 "$folder"
    as_server=(runuser -u postgres --)
fi
mkdir "$folder/server"
[ "$(id -u)" = 0 ] && chown postgres "$folder/server"
trap '"${as_server[@]}" "$programs/pg_ctl" -D "$folder/server/data" -m immediate stop \
    >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
"${as_server[@]}" "$programs/initdb" -D "$folder/server/data" -A trust -U me --no-sync >/dev/null
"${as_server[@]}" "$programs/pg_ctl" -D "$folder/server/data" -w -l "$folder/server/log" \
    -o "-c listen_addresses='' -k $folder/server" start >/dev/null
export DATABASE="postgresql://me@/postgres?host=$folder/server"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    langgraph==1.2.24 langgraph-checkpoint==4.3.2 langchain-core==1.8.3 \
    langgraph-checkpoint-postgres==3.2.0 langgraph-checkpoint-sqlite==3.1.2 'psycopg[binary]==3.3.9'
"$folder/venv/bin/python" - <<'PYTHON'
import enum
import logging
import os
import sys
from importlib.metadata import version
from typing import Any, TypedDict

import psycopg
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

logging.disable(logging.WARNING)  # about types that aren't registered; they are restored


class Status(str, enum.Enum):
    OPEN = "open"


class Level(enum.IntEnum):
    HIGH = 3


class State(TypedDict, total=False):
    value: Any
    turns: int


graph = StateGraph(State)
graph.add_node("turn", lambda state: {"turns": state.get("turns", 0) + 1})
graph.add_edge(START, "turn")


def restored(saver, value):
    app = graph.compile(checkpointer=saver)
    thread = {"configurable": {"thread_id": repr(value)}}
    try:
        app.invoke({"value": value}, thread)
    except psycopg.Error as error:
        return type(error).__name__
    return app.get_state(thread).values["value"]


names = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-postgres")
print({name: version(name) for name in names})
expected = {
    Status.OPEN: "open",
    Level.HIGH: 3,
    1e16: 10**16,
    float("inf"): "InvalidTextRepresentation",
    float("nan"): "InvalidTextRepresentation",
}
holds = True
with (
    PostgresSaver.from_conn_string(os.environ["DATABASE"]) as postgres,
    SqliteSaver.from_conn_string(":memory:") as sqlite,
):
    postgres.setup()
    for value, wanted in expected.items():
        seen = [restored(saver, value) for saver in (InMemorySaver(), sqlite, postgres)]
        print(f"{value!r}: memory {seen[0]!r}, SQLite {seen[1]!r}, Postgres {seen[2]!r}")
        same = [type(one) is type(value) and repr(one) == repr(value) for one in seen]
        holds &= same == [True, True, False]
        holds &= type(seen[2]) is type(wanted) and seen[2] == wanted
    inside = [Status.OPEN, Level.HIGH, 1e16, float("inf")]
    restored_inside = restored(postgres, inside)
    print(f"{inside!r}: Postgres {restored_inside!r}")
    holds &= repr(restored_inside) == repr(inside)
sys.exit(None if holds else "This no longer holds.")
PYTHON
