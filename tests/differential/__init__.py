"""Wherry's answers compared with RabbitMQ's, frame by frame: recorded ones (`golden.json`) and
random sequences.
"""
