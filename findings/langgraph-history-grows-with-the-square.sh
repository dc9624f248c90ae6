#!/usr/bin/env bash
# LangGraph: a thread of messages takes space with the square of its turns, in SQLite and Postgres
# alike: each step writes the whole list of messages again, two or three times a turn. 200 turns of
# 1 kB take more than 50 MB in SQLite; at 10,000 turns that is hundreds of gigabytes.
#
# Guess: linear in the turns, since what did not change need not be written again; or quadratic,
# but then one would have heard of it.
# Why it matters: a chat that runs for weeks fills the disk, and long before that each turn is
# slow, since it writes megabytes.
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
import os
import random
import sys
from importlib.metadata import version

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

# Text that can't be compressed, since Postgres compresses.
letters = random.Random(1)


def words():
    return letters.randbytes(250).hex()


graph = StateGraph(MessagesState)
graph.add_node("answer", lambda _: {"messages": [("ai", words())]})
graph.add_edge(START, "answer")


def sizes(saver, size):
    app = graph.compile(checkpointer=saver)
    found = {}
    for turn in range(1, 201):
        app.invoke({"messages": [("user", words())]}, {"configurable": {"thread_id": "1"}})
        if turn in (50, 100, 200):
            found[turn] = size(saver)
    return found


def in_sqlite(saver):
    pages = saver.conn.execute("PRAGMA page_count").fetchone()[0]
    return pages * saver.conn.execute("PRAGMA page_size").fetchone()[0]


def in_postgres(saver):
    row = saver.conn.execute("SELECT pg_database_size(current_database()) AS size").fetchone()
    return row["size"] - empty


names = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-postgres")
print({name: version(name) for name in names})
holds = True
with (
    PostgresSaver.from_conn_string(os.environ["DATABASE"]) as postgres,
    SqliteSaver.from_conn_string(":memory:") as sqlite,
):
    postgres.setup()
    empty = 0
    empty = in_postgres(postgres)
    for name, saver, size in (
        ("SQLite", sqlite, in_sqlite), ("Postgres", postgres, in_postgres)
    ):
        found = sizes(saver, size)
        for turns, taken in found.items():
            print(f"{name}: {turns} turns, {turns} kB of text: {taken // 1000} kB")
        holds &= found[200] > 3 * found[100] > 9 * found[50] and found[200] > 100 * 200_000
sys.exit(None if holds else "This no longer holds.")
PYTHON
