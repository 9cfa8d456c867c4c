"""What consumes topics and writes stores: account state into Postgres, history into ClickHouse.

Pure modules turn events into rows; two writers put them into their store, each exactly once. Nothing else writes a read
table, and nothing here is read in a decision.
"""
