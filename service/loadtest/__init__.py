"""A load generator for servers that answer images over HTTP: open loop, seeded, replayable.

    traces    when requests are sent: Poisson, bursty, steady, or a file
    client    HTTP/1.1 on keep-alive connections, cheap enough not to be what is measured
    sending   sends a trace at its times, whether answers come or not; or keeps N requests in flight
    samples   what became of each request
    report    the figures: throughput, percentiles, goodput, attainment, quality
    plots     the same, drawn

A latency counts from when a request *should* have been sent: a server that answers slowly, and so keeps a waiting
client from sending the next, is charged for that wait.
"""
