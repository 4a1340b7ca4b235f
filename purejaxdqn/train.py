def main() -> None:
    print("train")


if __name__ == "__main__":
    main()
