"""How fast the proxy is beside its peers: `make bench`, `make bench-smoke`, `make bench-profile`.

Servers run on one core, the load, the store and DynamoDB's stand-in on another. Every path takes
its turn in every round, so that whatever else the machine does meets all of them alike; what is
told is the median of the rounds. `plan` says what is asked, `world` starts the servers, `measuring`
takes the turns, `targets` judges, `page` and `plots` show.
"""
