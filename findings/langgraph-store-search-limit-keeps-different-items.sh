#!/usr/bin/env bash
# LangGraph: when more items match than `limit` (10 if not given), the store in memory keeps those
# that were put first, whatever was changed since; SQLite and Postgres keep those that were changed
# last.
#
# Guess: the newest ones, in every store.
# Why it matters: "recall what we know of the user" is tested with the store in memory and a few
# facts; from the eleventh fact on, new ones are never recalled there, and old ones never
# with a database.
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
expected = {"memory": {"a", "b"}, "SQLite": {"a", "e"}, "Postgres": {"a", "e"}}
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
        if store is sqlite:  # its clock has whole seconds: set the times apart
            change = "UPDATE store SET updated_at = datetime('now', ?) WHERE key = ?"
        for key in "abcde":
            store.put(("facts",), key, {"fact": key})
            if store is sqlite:
                sqlite.conn.execute(change, (f"-{ord('z') - ord(key)} hours", key))
        store.put(("facts",), "a", {"fact": "corrected"})
        kept = {item.key for item in store.search(("facts",), limit=2)}
        print(f"{name}: a, b, c, d, e were put, then a again; limit=2 keeps {sorted(kept)}")
        holds &= kept == expected[name]
sys.exit(None if holds else "This no longer holds.")
PYTHON
