"""Peers that mean harm, each beside a bystander that must be served as ever."""
