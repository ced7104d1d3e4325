"""The procrastinate side of tasks.py: fetch and finish no-op jobs through its own SQL, and print the seconds it took.

Run by tasks.py with the Python of an environment that has benchmarks/requirements.txt. Each job is fetched in one transaction and
finished in another, as its worker does; the worker's event loop, which is slower still, is left out.
"""

import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier

import procrastinate
import psycopg
from procrastinate.sql import queries

FILL = """
INSERT INTO procrastinate_jobs (queue_name, task_name, args)
SELECT 'bench', 'noop', jsonb_build_object('item', number) FROM generate_series(1, %s) AS number
"""
QUERIES = dict(queries)


def work(url: str, barrier: Barrier) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        [worker_id] = connection.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone() or [None]
        barrier.wait()
        while (job := connection.execute(QUERIES["fetch_job"], {"queues": ["bench"], "worker_id": worker_id}).fetchone()) and job[0]:
            connection.execute(QUERIES["finish_job"], {"job_id": job[0], "status": "succeeded", "delete_job": False})
        barrier.wait()


def main(url: str, jobs: str, workers: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connector = procrastinate.SyncPsycopgConnector(conninfo=url)
        if connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() == (None,):
            with procrastinate.App(connector=connector).open() as app:
                app.schema_manager.apply_schema()
        connection.execute("TRUNCATE procrastinate_jobs CASCADE")
        connection.execute(FILL, (int(jobs),))
        connection.execute("VACUUM ANALYZE")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(int(workers) + 1)
    processes = [context.Process(target=work, args=(url, barrier)) for _ in range(int(workers))]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    print(time.perf_counter() - started)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
