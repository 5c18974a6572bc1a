"""All use of Optuna's storage, its internals and its tables: an upgrade of Optuna breaks here, or nowhere.

opening     ``open_storage``: the storage at a URL
urls        what a URL says: a SQLite file, a proxy, and what of it may be shown
database    SQLite and PostgreSQL, as Optuna's storage
proxy       a storage behind Optuna's gRPC proxy, and the proxy's own side
schema      whether a database has the tables of the Optuna that runs
identity    what a study is known by, however often its name and numbers are used again
internals   what an Optuna study keeps to itself
locks       locks that all workers of a study share
reading     trials as they are now, without their parameters
writing     a trial's parameters, attributes and state
heartbeats  of running trials
outages     waiting for a database that is away

``tests/study/storage/test_contract.py`` holds all three kinds of storage to what the rest relies on, and a
rule test finds private names of Optuna's anywhere else.
"""
