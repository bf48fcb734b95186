/*
 * pci: the header of FRCP, its protocol control information (paper 2.17; spec/frcp FRCP-2, FRCP-3).
 */
#ifndef OUROBOROS_PCI_H
#define OUROBOROS_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_OCTETS 12u

#define PCI_DATA 0x01u /* carries data; the sequence number is valid */
#define PCI_DRF 0x02u  /* data run: everything before the sequence number, which is valid, was acknowledged */
#define PCI_ACK 0x04u  /* the acknowledgement number is valid */
#define PCI_FC 0x08u   /* the window is valid */
#define PCI_RDV 0x10u  /* rendez-vous: the window is shut, and the sender asks for it */
#define PCI_FFGM 0x20u /* first fragment */
#define PCI_MFGM 0x40u /* more fragments follow */

/* FFGM and MFGM together (paper 2.14). Without fragmentation both bits are clear in every packet. */
#define PCI_WHOLE PCI_FFGM
#define PCI_FIRST (PCI_FFGM | PCI_MFGM)
#define PCI_LAST 0u
#define PCI_PIECE (PCI_FFGM | PCI_MFGM)

#define PCI_WINDOW_BITS 24
#define PCI_WINDOW_MASK 0xffffffu

struct pci {
        uint32_t flags;
        uint32_t window; /* right window edge, its low 24 bits */
        uint32_t seq;
        uint32_t ackno;
};

/* Sequence numbers are compared modulo 2^32. */
static inline bool seq_before(uint32_t a, uint32_t b)
{
        return (int32_t)(a - b) < 0;
}

static inline void pci_put_word(uint8_t *at, uint32_t word)
{
        word = __builtin_bswap32(word);
        __builtin_memcpy(at, &word, 4);
}

static inline uint32_t pci_get_word(const uint8_t *at)
{
        uint32_t word;

        __builtin_memcpy(&word, at, 4);
        return __builtin_bswap32(word);
}

static inline void pci_encode(uint8_t *at, const struct pci *pci)
{
        pci_put_word(at, pci->flags << PCI_WINDOW_BITS | (pci->window & PCI_WINDOW_MASK));
        pci_put_word(at + 4, pci->seq);
        pci_put_word(at + 8, pci->ackno);
}

/* Any PCI_OCTETS octets decode. */
static inline void pci_decode(struct pci *pci, const uint8_t *at)
{
        uint32_t word = pci_get_word(at);

        pci->flags = word >> PCI_WINDOW_BITS;
        pci->window = word & PCI_WINDOW_MASK;
        pci->seq = pci_get_word(at + 4);
        pci->ackno = pci_get_word(at + 8);
}

#endif
