"""Networks: from observations to a return distribution of every action.

May import `config`, `types`, `machine` and `observations`. Read `qnetwork.py` first: torso, streams and outputs put
together.
"""

from purejaxdqn.networks.ensemble import make_ensemble
from purejaxdqn.networks.layers import ACTIVATIONS, INITIALIZERS, NORMS, make_norm
from purejaxdqn.networks.qnetwork import Network, make_network
from purejaxdqn.networks.torsos import (
    TORSOS,
    MakeTorso,
    Torso,
    find_torso,
    network_name,
    network_reads,
    own_torso,
    to_features,
    torso_name,
)
from purejaxdqn.networks.whole import whole_network

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "NORMS",
    "TORSOS",
    "MakeTorso",
    "Network",
    "Torso",
    "find_torso",
    "make_ensemble",
    "make_network",
    "make_norm",
    "network_name",
    "network_reads",
    "own_torso",
    "to_features",
    "torso_name",
    "whole_network",
]
