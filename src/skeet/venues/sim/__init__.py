"""The simulated exchange: a matching engine behind a server that speaks Binance's spot dialect.

From the inside out, in the order to read it:

``units, instruments, orders``   exact amounts, what can be traded, the words
``book, balances, filters``      who is next, who owns what, what may be asked for
``engine``                       price–time matching and settlement; pure
``flow``                         the background market: seeded, pure
``commands``                     everything that can change the exchange
``exchange``                     log, perform, record, announce; snapshot and recovery (``linefile, journal, tape, snapshot``)
``public_api, private_api``      Binance's requests; ``market_streams, user_streams`` its streams; ``signing`` its keys
``server, admin, role``          the process
``ccxt_settings``                how ccxt is pointed at it
"""
