#!/usr/bin/env bash
# Spark: a column that a Python function computes is computed twice for each row when it is filtered
# by, and again twice when it is sorted by: the filter and the column are computed
# separately, and a sort first samples its input. With a model inside every row is asked and paid
# twice, and filter and column may see different answers. `asNondeterministic()` cures the
# filter, not the sort.
#
# Guess: `withColumn` computes a column once; what follows reads it.
# Why it matters: the bill is double, and rows that passed "answer is yes" may say no.
# Needs Java (77: not installed).
set -euo pipefail
command -v java >/dev/null || { echo "Needs Java: apt-get install default-jre-headless"; exit 77; }
export SPARK_LOCAL_IP=127.0.0.1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pyspark==4.3.0 'pandas<3' pyarrow==26.0.1
cat >"$folder/finding.py" <<'PYTHON'
import logging
import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql.functions import udf

LOG = Path(__file__).with_name("calls.txt")
os.environ["PYSPARK_PYTHON"] = sys.executable
logging.disable(logging.WARNING)


def ask(prompt):
    with LOG.open("a") as file:
        file.write("x")
    return f"answer to {prompt}"


spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.log.level", "ERROR")
    .getOrCreate()
)
rows = spark.createDataFrame([(f"prompt {n}",) for n in range(100)], ["prompt"])
rows = rows.repartition(2).cache()
rows.count()
pure = rows.withColumn("answer", udf(ask, "string")("prompt"))
impure = rows.withColumn("answer", udf(ask, "string").asNondeterministic()("prompt"))


def calls(frame):
    LOG.write_text("")
    assert len(frame.collect()) == 100
    return LOG.stat().st_size


print(f"Spark {spark.version}; 100 rows, column `answer` computed by a function")
seen = {
    "the column": calls(pure),
    "then filtered by it": calls(pure.filter("answer <> ''")),
    "then sorted by it": calls(pure.orderBy("answer")),
    "then filtered, nondeterministic": calls(impure.filter("answer <> ''")),
    "then sorted, nondeterministic": calls(impure.orderBy("answer")),
}
for name, number in seen.items():
    print(f"{name}: {number} calls")
spark.stop()
holds = list(seen.values()) == [100, 200, 200, 100, 200]
sys.exit(None if holds else "This no longer holds.")
PYTHON
cd "$folder"
"$folder/venv/bin/python" finding.py
