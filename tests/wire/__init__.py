"""What the tests of the AMQP server share: brokers to test, a driver of exact frames, a proxy that
cuts connections.
"""
