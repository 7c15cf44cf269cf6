"""`python -m system.edge serve`: whom nginx is told to ask."""

from __future__ import annotations

from system.edge.serve import Members


class World:
    """A name server and a clock."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.now = 0.0

    def members(self, *gateways: str) -> Members:
        """Those who look in this world."""
        return Members(gateways, lambda name: self.names.get(name, []), lambda: self.now)


def test_every_member_of_a_name_is_asked() -> None:
    """A scaled service has an address for each member."""
    world = World(gateway=["10.0.0.4", "10.0.0.3"], single=["10.0.0.9"])

    assert world.members("gateway:3000", "single:3100").look() == (
        "10.0.0.3:3000",
        "10.0.0.4:3000",
        "10.0.0.9:3100",
    )


def test_a_new_member_is_asked_at_once() -> None:
    """It costs a reload, and is what one adds it for."""
    world = World(gateway=["10.0.0.3"])
    members = world.members("gateway:3000")
    members.look()

    world.names["gateway"] = ["10.0.0.3", "10.0.0.4"]

    assert members.look() == ("10.0.0.3:3000", "10.0.0.4:3000")


def test_a_member_that_restarts_costs_no_reload() -> None:
    """Its address is unknown for a second, and then its own again."""
    world = World(gateway=["10.0.0.3", "10.0.0.4"])
    members = world.members("gateway:3000")
    before = members.look()

    world.names["gateway"], world.now = ["10.0.0.3"], 2.0
    assert members.look() == before
    world.names["gateway"], world.now = ["10.0.0.3", "10.0.0.4"], 4.0
    assert members.look() == before
    world.names["gateway"], world.now = ["10.0.0.3"], 6.5
    assert members.look() == before


def test_a_member_that_moved_is_asked_at_its_new_address_only() -> None:
    """Nobody comes back to the old one."""
    world = World(gateway=["10.0.0.3", "10.0.0.4"])
    members = world.members("gateway:3000")
    members.look()

    world.names["gateway"] = ["10.0.0.3", "10.0.0.7"]

    assert members.look() == ("10.0.0.3:3000", "10.0.0.7:3000")


def test_a_member_that_is_gone_is_not_asked() -> None:
    """An address nobody has would cost every request a timeout."""
    world = World(gateway=["10.0.0.3", "10.0.0.4"])
    members = world.members("gateway:3000")
    members.look()

    world.names["gateway"], world.now = ["10.0.0.4"], 3.0

    assert members.look() == ("10.0.0.4:3000",)


def test_while_nobody_is_known_the_last_answer_stands() -> None:
    """A restart that keeps its address costs no reload; at first there is one who refuses."""
    world = World(gateway=["10.0.0.3"])
    members, nobody = world.members("gateway:3000"), world.members("unknown:3000")
    members.look()

    world.names.clear()
    world.now = 60.0

    assert members.look() == ("10.0.0.3:3000",)
    assert nobody.look() == ("127.0.0.1:1",)
