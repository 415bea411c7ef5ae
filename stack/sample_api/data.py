"""The made-up shop that the sample API serves: its products, users and carts, day by day.

Every value follows from the seed, the day and the record's id: a page costs the same in a shop of any size, and is the
same for every request. A shop keeps its size; from day to day some products and carts go and as many
come, stock moves, a price holds for a week, and users grow older.
"""

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

Entity = Literal["products", "carts", "users"]

FIRST_DAY = date(2026, 1, 1)
"""Until then ids begin at 1; from then on each day's first product and first cart are later ones."""

ADJECTIVES = ("Amber", "Brisk", "Calm", "Dusky", "Early", "Fleet", "Grand", "Hollow", "Ivory", "Jolly", "Keen", "Lucid")
NOUNS = ("Anchor", "Basket", "Candle", "Drawer", "Easel", "Funnel", "Goblet", "Hammer", "Inkwell", "Jacket", "Kettle")
BRANDS = ("Aldermoor", "Brightwell", "Corvane", "Dunmere", "Eastlight", "Fenwick & Day", "Gorsehill", "Harrowgate")
NAMES = ("Ada", "Bram", "Cleo", "Dara", "Elif", "Finn", "Gwen", "Hugo", "Ines", "Juno", "Kofi", "Lena", "Milo", "Nora")
SURNAMES = ("Ashdown", "Birkett", "Calloway", "Dunning", "Ellery", "Fairley", "Garrick", "Holt", "Ingram", "Jessop")
CATEGORIES = tuple(
    f"{group}-{part}"
    for group in ("garden", "kitchen", "office", "outdoor", "studio", "workshop")
    for part in ("basics", "care", "lighting", "storage")
)
COMMENTS = ("Better than hoped", "Does what it says", "Broke after a week", "Would buy again", "Not worth the price")
STATUSES = ("In Stock", "Low Stock", "Out of Stock")
TOWNS = ("Alderwick", "Brookmere", "Castleford Bay", "Dunhollow", "Eastmarsh", "Foxley", "Greystone")
STATES = (("Northmark", "NM"), ("Southvale", "SV"), ("Westerly", "WS"))
DEPARTMENTS = ("Engineering", "Finance", "Human Resources", "Legal", "Marketing", "Sales", "Support")
ROLES = (*("user",) * 16, "moderator", "moderator", "moderator", "admin")


@dataclass(frozen=True)
class Shop:
    """The shop on one day, and how many products, carts and users it has."""

    day: date
    seed: int = 1
    products: int = 194
    carts: int = 50
    users: int = 208

    def ids(self, entity: Entity) -> range:
        """The ids of all that there is of the entity on the day. A shop without users has no carts."""
        days = max(0, (self.day - FIRST_DAY).days)
        if entity == "products":
            first, size = 1 + days * max(1, self.products // 200), self.products
        elif entity == "carts":
            first, size = 1 + days * max(1, self.carts // 5), self.carts if self.users else 0
        else:
            first, size = 1, self.users
        return range(first, first + size)

    def record(self, entity: Entity, number: int) -> dict[str, Any]:
        """One record, as the API gives it."""
        return {"products": product, "carts": cart, "users": user}[entity](self, number)


def fraction(*parts: object) -> float:
    """A number from 0 up to 1 that follows from the parts, and looks random."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def pick(values: tuple[Any, ...], *parts: object) -> Any:
    """One of the values, following from the parts."""
    return values[int(len(values) * fraction(*parts))]


def offer(shop: Shop, number: int) -> dict[str, Any]:
    """What products and carts say of a product alike. A value without cents is an int."""
    week = (shop.day.toordinal() + number) // 7
    shown = {name: fraction(shop.seed, number, name) for name in ("title", "noun", "price", "discount")}
    price = round((1 + 400 * shown["price"] ** 2) * (0.9 + 0.2 * fraction(shop.seed, number, "price", week)), 2)
    discount = round(20 * shown["discount"], 2)
    return {
        "id": number,
        "title": f"{ADJECTIVES[int(12 * shown['title'])]} {NOUNS[int(11 * shown['noun'])]}",
        "price": int(price) if price == int(price) else price,
        "discountPercentage": int(discount) if number % 7 == 0 else discount,
        "thumbnail": f"https://img.example.com/{number}/thumbnail.webp",
    }


def product(shop: Shop, number: int) -> dict[str, Any]:
    """One product as it is on the day. `brand` is missing in about half."""
    seed = shop.seed
    offered = offer(shop, number)
    stock = int(120 * fraction(seed, number, "stock", shop.day))
    category = CATEGORIES[number % len(CATEGORIES)]
    made: dict[str, Any] = {
        "id": number,
        "title": offered["title"],
        "description": f"{offered['title']}: made to last, sold with care.",
        "category": category,
        "price": offered["price"],
        "discountPercentage": offered["discountPercentage"],
        "rating": round(2.5 + 2.5 * fraction(seed, number, "rating", shop.day), 2),
        "stock": stock,
        "tags": category.split("-"),
        "brand": pick(BRANDS, seed, number, "brand"),
        "sku": f"{category[:3].upper()}-{seed}-{number:07d}",
        "weight": 1 + int(9 * fraction(seed, number, "size")),
        "dimensions": {name: round(5 + 25 * fraction(seed, number, name), 2) for name in ("width", "height", "depth")},
        "warrantyInformation": f"{1 + number % 5} year warranty",
        "shippingInformation": f"Ships in {1 + number % 7} days",
        "availabilityStatus": STATUSES[0 if stock > 10 else 1 if stock else 2],
        "reviews": [review(shop, number, position) for position in range(3)],
        "returnPolicy": f"{30 * (number % 3)} days return policy",
        "minimumOrderQuantity": 1 + number % 20,
        "meta": {
            "createdAt": "2025-04-30T09:41:02.053Z",
            "updatedAt": "2025-04-30T09:41:02.053Z",
            "barcode": f"{int(1e13 * fraction(seed, number, 'barcode')):013d}",
            "qrCode": "https://img.example.com/qr.png",
        },
        "images": [f"https://img.example.com/{number}/{position}.webp" for position in range(1, 2 + number % 4)],
        "thumbnail": offered["thumbnail"],
    }
    if fraction(seed, number, "branded") < 0.47:
        del made["brand"]
    return made


def review(shop: Shop, number: int, position: int) -> dict[str, Any]:
    """One of a product's three reviews, with a person's name and e-mail address in it."""
    name = pick(NAMES, shop.seed, number, "reviewer", position)
    return {
        "rating": 1 + int(5 * fraction(shop.seed, number, "stars", position)),
        "comment": pick(COMMENTS, shop.seed, number, "comment", position),
        "date": "2025-04-30T09:41:02.053Z",
        "reviewerName": f"{name} {SURNAMES[(number + position) % len(SURNAMES)]}",
        "reviewerEmail": f"{name.lower()}.{number}@mail.example.com",
    }


def cart(shop: Shop, number: int) -> dict[str, Any]:
    """One open cart: up to six products of the day at the day's prices, for one of the users."""
    items = [cart_item(shop, number, product_id) for product_id in in_cart(shop, number)]
    return {
        "id": number,
        "products": items,
        "total": round(sum(item["total"] for item in items), 2),
        "discountedTotal": round(sum(item["discountedTotal"] for item in items), 2),
        "userId": 1 + int(shop.users * fraction(shop.seed, "cart", number, "user")),
        "totalProducts": len(items),
        "totalQuantity": sum(item["quantity"] for item in items),
    }


def in_cart(shop: Shop, number: int) -> list[int]:
    """The products in a cart. They stay the same from day to day; one that goes gives way to its successor."""
    ids = shop.ids("products")
    if not ids:
        return []
    wanted = 1 + int(6 * fraction(shop.seed, "cart", number, "items"))
    places = [int(len(ids) * fraction(shop.seed, "cart", number, position)) for position in range(wanted)]
    # A place's product is the day's only one with that remainder; two places may be the same.
    return list(dict.fromkeys(ids[(place - ids.start) % len(ids)] for place in places))


def cart_item(shop: Shop, number: int, product_id: int) -> dict[str, Any]:
    """One product in a cart."""
    offered = offer(shop, product_id)
    quantity = 1 + int(5 * fraction(shop.seed, "cart", number, "quantity", product_id % max(1, shop.products)))
    total = round(offered["price"] * quantity, 2)
    return {
        "id": product_id,
        "title": offered["title"],
        "price": offered["price"],
        "quantity": quantity,
        "total": total,
        "discountPercentage": offered["discountPercentage"],
        "discountedTotal": round(total * (1 - offered["discountPercentage"] / 100), 2),
        "thumbnail": offered["thumbnail"],
    }


def user(shop: Shop, number: int) -> dict[str, Any]:
    """One user, with every kind of personal and secret value that a shop should guard; all of them are made up."""
    key = (shop.seed, "user", number)
    born = date.fromordinal(date(1950, 1, 1).toordinal() + int(20_000 * fraction(*key, "born")))
    first, last, maiden = (pick(names, *key, position) for position, names in enumerate((NAMES, SURNAMES, SURNAMES)))
    username = f"{first}.{last}{number}".lower()
    digits = f"{int(1e16 * fraction(*key, 'digits')):016d}"
    return {
        "id": number,
        "firstName": first,
        "lastName": last,
        "maidenName": maiden,
        "age": shop.day.year - born.year - ((shop.day.month, shop.day.day) < (born.month, born.day)),
        "gender": pick(("female", "male"), *key, "gender"),
        "email": f"{username}@mail.example.com",
        "phone": f"+1 555-01{digits[:2]}",
        "username": username,
        "password": f"{username}-pass",
        "birthDate": f"{born.year}-{born.month}-{born.day}",
        "image": f"https://img.example.com/users/{number}.webp",
        "bloodGroup": pick(("A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"), *key, "blood"),
        "height": round(150 + 50 * fraction(*key, "height"), 2),
        "weight": round(50 + 50 * fraction(*key, "weight"), 2),
        "eyeColor": pick(("Amber", "Blue", "Brown", "Gray", "Green"), *key, "eyes"),
        "hair": {
            "color": pick(("Black", "Blonde", "Brown", "Gray", "Red"), *key, "hair"),
            "type": pick(("Curly", "Straight", "Wavy"), *key, "curls"),
        },
        "ip": f"203.0.113.{number % 256}",
        "address": address(*key, "home"),
        "macAddress": ":".join(("00:00:5e:00:53", f"{number % 256:02x}")),
        "university": f"University of {pick(TOWNS, *key, 'university')}",
        "bank": {
            "cardExpire": f"{1 + number % 12:02d}/{28 + number % 5}",
            "cardNumber": f"0000{digits[4:]}",
            "cardType": pick(("Example Card", "Sample Express"), *key, "card"),
            "currency": pick(("CHF", "EUR", "GBP", "USD"), *key, "currency"),
            "iban": f"XX00{digits}",
        },
        "company": {
            "department": pick(DEPARTMENTS, *key, "department"),
            "name": f"{pick(SURNAMES, *key, 'company')} and Company",
            "title": pick(("Analyst", "Clerk", "Director", "Engineer"), *key, "job"),
            "address": address(*key, "work"),
        },
        "ein": f"00-{digits[:7]}",
        "ssn": f"000-{digits[7:9]}-{digits[9:13]}",
        "userAgent": "Mozilla/5.0 (compatible; sample)",
        "crypto": {"coin": "Example Coin", "wallet": f"0x{digits}", "network": "None"},
        "role": pick(ROLES, *key, "role"),
    }


def address(*key: object) -> dict[str, Any]:
    """An address in a place that does not exist."""
    state, code = pick(STATES, *key, "state")
    return {
        "address": f"{1 + int(999 * fraction(*key, 'house'))} {pick(NOUNS, *key, 'street')} Street",
        "city": pick(TOWNS, *key, "town"),
        "state": state,
        "stateCode": code,
        "postalCode": f"{int(1e5 * fraction(*key, 'code')):05d}",
        "coordinates": {
            "lat": round(180 * fraction(*key, "lat") - 90, 6),
            "lng": round(360 * fraction(*key, "lng") - 180, 6),
        },
        "country": "Nowhere",
    }
