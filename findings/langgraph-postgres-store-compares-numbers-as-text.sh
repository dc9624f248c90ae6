#!/usr/bin/env bash
# LangGraph: `store.search(…, filter={"score": {"$gt": 9}})` finds 10 and 100 in the store in memory
# and in SQLite. PostgresStore compares the numbers as text: it finds neither, and "less than 9"
# finds both.
#
# Guess: the operators mean the same in every store, as their documentation is the same.
# Why it matters: memories are picked by score, age or price; nothing raises, and the tests, with
# the store in memory, pass.
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
import sys
from importlib.metadata import version

from langgraph.store.memory import InMemoryStore
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore

print({name: version(name) for name in ("langgraph-checkpoint", "langgraph-checkpoint-postgres")})
right = {"$gt": [10, 100], "$lt": [5], "$gte": [10, 100], "$lte": [5]}
as_text = {"$gt": [], "$lt": [5, 10, 100], "$gte": [], "$lte": [5, 10, 100]}
holds = True
with (
    PostgresStore.from_conn_string(os.environ["DATABASE"]) as postgres,
    SqliteStore.from_conn_string(":memory:") as sqlite,
):
    for name, store in {
        "memory": InMemoryStore(), "SQLite": sqlite, "Postgres": postgres
    }.items():
        if hasattr(store, "setup"):
            store.setup()
        for score in (5, 10, 100):
            store.put(("facts",), f"fact-{score}", {"score": score})
        for operator, wanted in (as_text if store is postgres else right).items():
            found = store.search(("facts",), filter={"score": {operator: 9}})
            scores = sorted(item.value["score"] for item in found)
            print(f"{name}: scores of 5, 10, 100 that are {operator} 9: {scores}")
            holds &= scores == wanted
sys.exit(None if holds else "This no longer holds.")
PYTHON
