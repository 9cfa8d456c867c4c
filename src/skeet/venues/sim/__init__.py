"""The simulated exchange: a matching engine behind a server that speaks Binance's spot dialect.

From the inside out, in the order to read it:

``units, instruments, orders``   exact amounts, what can be traded, the words
``book, balances, filters``      who is next, who owns what, what may be asked for
``engine, settlement``           price–time matching, and the money side of it; pure
``account_events, blotter``      what happened to customers, and the views folded from it
``flow, history, stats``         the background market, its past, and the proof that it behaves like one; seeded
``commands, exchange``           everything that can change the exchange; log, perform, record, announce
``linefile, journal, snapshot, tape, bars``   what is on disk, and how it comes back after kill -9
``public_api, private_api``      Binance's requests; ``market_streams, frames, user_streams`` its streams; ``signing`` its keys
``server, sockets, admin, behaviour, role``   the process, and how it is told to misbehave
``ccxt_settings``                how ccxt is pointed at it
"""
